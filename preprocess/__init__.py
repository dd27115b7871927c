"""From source files to finished stores: sources, plan, conversion, checks, command line."""
