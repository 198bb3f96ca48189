"""Where segments go. A module a destination: its settings, its checks, its tasks. The registry names one."""
