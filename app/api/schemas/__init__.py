"""Request and response models, one file a noun. Unknown fields are refused."""
