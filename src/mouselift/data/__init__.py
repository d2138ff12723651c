"""From what users have (pictures, masks, recordings) to posed `Views`."""
