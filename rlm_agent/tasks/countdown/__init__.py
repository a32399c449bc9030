"""Countdown (reach a target from n numbers) and Game of 24, its special case."""
