"""Who may do what: tokens and their scopes, sessions of browsers, and which route asks for which scope."""
