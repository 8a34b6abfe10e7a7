"""All SQL of the application. A repository is made for one transaction and one principal and sees only its organization."""
