"""``tightfit dispatch``: a dispatcher alone, where it grows apart from the API."""


def dispatch() -> None:
    """Run queued jobs until told to stop; the settings are those of `serve`, from the environment."""
    from service.dispatcher import main  # it imports Ray, which no other command needs

    main()
