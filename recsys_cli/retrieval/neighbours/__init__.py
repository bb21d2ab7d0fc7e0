"""Items and users alike by those whom they share."""
