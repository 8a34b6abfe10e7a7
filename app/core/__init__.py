"""What every layer may use: settings, errors, principals, ids, clock, logging. Imports nothing else of Ibid."""
