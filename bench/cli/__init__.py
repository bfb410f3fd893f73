"""The command line of the workbench: one parser, one handler a command."""
