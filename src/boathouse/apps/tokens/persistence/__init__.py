"""What PostgreSQL keeps, how it is asked, and what the facility file puts there."""
