"""What is kept in the database, and the only queries there are."""
