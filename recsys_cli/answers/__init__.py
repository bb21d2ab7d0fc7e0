"""What people and programs read: slates with ids and reasons, rows of many slates, what lies near."""
