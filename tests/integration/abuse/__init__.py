"""What strangers may send; beside each abuse honest clients call, and none of them may notice."""
