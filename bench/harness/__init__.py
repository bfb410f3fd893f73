"""What every study and command uses: the two frameworks, the programs, records, machine facts."""
