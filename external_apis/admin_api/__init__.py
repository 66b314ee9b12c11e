"""Seed 001's External Admin API, ``/api/external``: the frame, and one file for each resource of this floor.

A resource is a file with views (`frame.ResourceView`), whose methods are declared by `operations`, and a list
``routes``, which `urls` collects.
"""
