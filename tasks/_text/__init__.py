"""Text files read strictly, and where what is learnt from text is kept: for every task on language."""
