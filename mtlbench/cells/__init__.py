"""From words to cells: what is asked for, validated, with an identity and a name."""
