"""What an operator wishes of the fleet: policies, schedules, events."""
