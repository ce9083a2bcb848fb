"""What arrives at a collector when real servers, in processes of their own, run a cached app."""
