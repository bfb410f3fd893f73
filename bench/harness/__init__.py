"""Shared by every study and command: frameworks, programs, records, facts about the machine."""
