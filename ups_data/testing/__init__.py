"""Contract suites that users can run on their own stores."""
