"""Published protocols run on folders of public data: our figures beside those of the papers."""
