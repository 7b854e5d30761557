"""rlm_eval: is a Recursive Language Model worth it? See ARCHITECTURE.md."""
