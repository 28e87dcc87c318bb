"""What every layer above shares: errors, names, random numbers, types, events, languages."""
