"""A cloud over HTTP, in a process that is not the manager's: what manager processes launch nodes in.

server.py    the cloud: instances, answers that are lost, and the nodes on the instances
manager.py   a real stream manager (`python -m controlplane`) whose provisioner asks that cloud
managers.py  several of them on one database, to be killed and stopped
"""
