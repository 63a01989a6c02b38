"""The roof: Definitions, resources, partitions, sensors on arrivals, schedules, the command line, the demo.

Belongs here: how the rooms are put together and when they run. Does not belong here: any rule about records or alerts.
"""
