"""What is said of drills in more than one place."""

ELSEWHERE = "Do it on the machine of that stage: showcaller drill kill-manager, without --api"
