"""What a bot's answer must not do: leave its scope, carry personal data, or obey a document."""
