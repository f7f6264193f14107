"""Find the blocks of a prompt in a pool: hash it as the engines do, and look."""
