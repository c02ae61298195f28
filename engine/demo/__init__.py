"""The demo: simulated banks, a throw-away install, and the main job from end to end through the public doors."""
