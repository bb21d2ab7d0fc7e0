"""An optional language model behind an HTTP address: topics of items without any, reasons in words. Off by default."""
