"""The command line, one thin file for each verb: compose a configuration, check it, build objects, call them."""
