"""Everything that parses bytes of users, in processes that may die without taking the service along."""
