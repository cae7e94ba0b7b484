"""What is said when a rank fails, dies or stalls."""
