"""What is asked for: names, sizes, and the body of a request."""

from osc_lib import exceptions

GIB = 1 << 30


def names(name, count):
    """The volumes' names: NAME-1 … NAME-count, or NAME with the number for each {}.

    Without a name there are none.
    """
    if name is None:
        return [None] * count
    form = name if '{}' in name else name + '-{}'
    return [form.replace('{}', str(i + 1)) for i in range(count)]


def image_size(image):
    """The least size in GiB of a volume that holds an image of Glance."""
    size = image.size or 0
    virtual = getattr(image, 'virtual_size', None) or 0
    if not virtual and image.disk_format not in ('raw', 'iso', 'ami', 'ari', 'aki'):
        raise exceptions.CommandError(
            'Glance does not know the virtual size of image %s; give --size.'
            % image.id)
    gib = (max(size, virtual) + GIB - 1) // GIB
    return max(gib, image.min_disk or 0, 1)


def batch_body(kwargs, name, count, partial):
    """The body of POST /volumes/batch, for the arguments of cinderclient's
    volumes.create, which are those of the stock command.
    """
    kwargs = dict(kwargs)
    hints = kwargs.pop('scheduler_hints', None)
    volume = {k: v for k, v in kwargs.items() if v is not None}
    body = {'volume': volume, 'count': count}
    if name is not None:
        body['name_template'] = name if '{}' in name else name + '-{}'
    if partial:
        body['partial'] = True
    if hints:
        body['OS-SCH-HNT:scheduler_hints'] = hints
    return body
