"""The command line: one thin file for each verb. Each composes a configuration, checks it, builds objects, calls them."""
