"""What the screens share: words and figures, the frame around every screen, tables, charts, dialogs."""
