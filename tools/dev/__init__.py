"""What keeps the repository going: environments, golden files, the data of the quickstart."""
