"""Optimize: the schedule that minimizes relapse within what the body bears."""
