"""What every resource is made with: names, short forms and encodings."""
