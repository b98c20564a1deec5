"""What is on air, how it is sent, what viewers get."""
