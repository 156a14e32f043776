namespace Pandora.Engine.MicroVms;

/// <summary>A microVM's record and the file that holds it, written by one at a time.</summary>
internal sealed class MicroVmFile(string directory, MicroVmRecord record)
{
    private readonly Lock _lock = new();
    private bool _isClosed;

    /// <summary>The record as it was written last.</summary>
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

    /// <summary>Changes the record, and writes it: one small file on a tmpfs.</summary>
    /// <exception cref="IOException">It could not be written; the record is as it was.</exception>
    public void Write(Func<MicroVmRecord, MicroVmRecord> change)
    {
        lock (_lock)
        {
            var changed = change(record);
            changed.Write(directory);
            record = changed;
        }
    }

    /// <summary>Writes the record again where the file does not hold it any more.</summary>
    /// <returns>What was wrong with the file, or null.</returns>
    /// <exception cref="IOException">It could not be read or written.</exception>
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

    /// <summary>Lets it be removed: it is not written any more.</summary>
    public void Close()
    {
        lock (_lock)
        {
            _isClosed = true;
        }
    }
}
