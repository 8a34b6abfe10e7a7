"""Where the files are that documents were made of: a local folder or an object store, and the folder they arrive in."""
