"""What is said of each phrase: a module for each family, and the numbers that it is tried on."""
