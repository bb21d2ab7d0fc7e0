"""What goes round a server: retraining behind gates, monitoring, the launch list and slates in a database."""
