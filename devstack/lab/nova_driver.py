"""Nova's fake virt driver with the connector of the host it stands for."""

from nova.virt import fake


class Driver(fake.FakeDriver):
    def get_volume_connector(self, instance):
        connector = super().get_volume_connector(instance)
        connector.update({
            # The name that a node of the laboratory has in /etc/iscsi/initiatorname.iscsi.
            'initiator': 'iqn.2026-11.org.vmthunder.lab:' + connector['host'],
            'platform': 'x86_64',
            'os_type': 'linux',
            'multipath': False,
        })
        return connector
