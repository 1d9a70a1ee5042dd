"""What others do, behind our interfaces, to choose by name and to compare with."""
