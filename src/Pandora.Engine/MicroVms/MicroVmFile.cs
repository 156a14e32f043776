namespace Pandora.Engine.MicroVms;

/// <summary>A microVM's record with its file. One caller at a time writes.</summary>
internal sealed class MicroVmFile(string directory, MicroVmRecord record)
{
    private readonly Lock _lock = new();
    private bool _isClosed;

    /// <summary>The record as last written.</summary>
    public MicroVmRecord Record
    {
        get
        {
            lock (_lock)
            {
                return record;
            }
        }
    }

    /// <summary>Changes the record and writes it: one small file on a tmpfs.</summary>
    /// <exception cref="IOException">The file could not be written; the record is unchanged.</exception>
    public void Write(Func<MicroVmRecord, MicroVmRecord> change)
    {
        lock (_lock)
        {
            var changed = change(record);
            changed.Write(directory);
            record = changed;
        }
    }

    /// <summary>Writes the record again when the file does not contain it any more.</summary>
    /// <returns>The problem of the file, or null.</returns>
    /// <exception cref="IOException">The file could not be read or written.</exception>
    public string? Repair()
    {
        lock (_lock)
        {
            if (_isClosed || record.IsIn(directory))
            {
                return null;
            }

            var problem = MicroVmRecord.TryRead(directory, out _, out var fault) ? "it was changed" : fault;
            record.Write(directory);
            return problem;
        }
    }

    /// <summary>Stops repairs, so that the file can be deleted.</summary>
    public void Close()
    {
        lock (_lock)
        {
            _isClosed = true;
        }
    }
}
