namespace Pandora.Agent.Files;

/// <summary>
/// A file that is written without a name, and takes its place as a whole. When it does not, nothing of it is left.
/// </summary>
internal sealed class NewFile : IDisposable
{
    private const int HoleSize = 4096;
    private readonly FilePlace _place;
    private readonly OpenFile _file;
    private readonly bool _isSparse;
    private byte[]? _name;
    private long _size, _written;

    /// <param name="place">Where it is to be. It stays the caller's.</param>
    /// <param name="isSparse">Whether blocks of zeros become holes.</param>
    /// <exception cref="FileFailedException">It could not be made.</exception>
    public NewFile(FilePlace place, bool isSparse)
    {
        (_place, _isSparse) = (place, isSparse);
        var file = FileCalls.Open(place.Directory, "."u8, FileCalls.Unnamed | FileCalls.WriteOnly, 0x180 /* 0600 */);
        if (file is FileCalls.NotSupported or FileCalls.IsDirectory or FileCalls.NoEntry or FileCalls.Invalid)
        {
            // The filesystem has no files without a name.
            _name = NewName();
            const int New = FileCalls.Create | FileCalls.Exclusive | FileCalls.WriteOnly;
            file = FileCalls.Open(place.Directory, _name, New | FileCalls.NoLink, 0x180);
        }

        _file = new OpenFile(FileFailedException.Check(file, place.Path));
    }

    /// <summary>The open file.</summary>
    public int Descriptor => _file.Descriptor;

    /// <summary>Bytes that were written, holes among them.</summary>
    public long Size => _size;

    /// <summary>A name that no file has.</summary>
    public static byte[] NewName() => [.. ".pandora-"u8, .. System.Text.Encoding.ASCII.GetBytes(Guid.NewGuid().ToString("N")[..16])];

    /// <summary>Adds bytes.</summary>
    /// <exception cref="FileFailedException">The disk is full, or another error.</exception>
    public void Write(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            // To the next border of a block, so that holes are whole blocks.
            var zeros = _isSparse ? CountZeros(bytes) : 0;
            if (zeros > 0)
            {
                Skip(zeros);
                bytes = bytes[zeros..];
                continue;
            }

            var part = _isSparse ? bytes[..CountData(bytes)] : bytes;
            WriteData(part);
            bytes = bytes[part.Length..];
        }
    }

    /// <summary>Leaves a hole.</summary>
    public void Skip(long count) => _size += count;

    /// <summary>Sets the owner, then the permission bits, which a change of the owner may take away.</summary>
    /// <exception cref="FileFailedException">The user may not.</exception>
    public void Finish(FileOwner? owner, uint mode, long? modifiedAt)
    {
        if (_size > _written)
        {
            FileFailedException.Check(FileCalls.SetSize(Descriptor, _size), _place.Path);
        }

        if (owner is { } given)
        {
            FileFailedException.Check(FileCalls.ChangeOwner(Descriptor, given.User, given.Group), _place.Path);
        }

        FileFailedException.Check(FileCalls.ChangeMode(Descriptor, mode), _place.Path);
        if (modifiedAt is { } time)
        {
            FileFailedException.Check(FileCalls.ChangeTime(Descriptor, time), _place.Path);
        }
    }

    /// <summary>Puts the file into its place, when no file is there.</summary>
    /// <returns>False when there is one.</returns>
    public bool TryPlaceNew()
    {
        var result = _name is null
            ? FileCalls.Link(Descriptor, _place.Directory, _place.Name)
            : RenameNew(_name);
        if (result is FileCalls.Exists)
        {
            return false;
        }

        FileFailedException.Check(result, _place.Path);
        _name = null;
        return true;
    }

    /// <summary>Puts the file into its place, in one step with the removal of the one that is there.</summary>
    public void Replace()
    {
        if (_name is null)
        {
            var name = NewName();
            FileFailedException.Check(FileCalls.Link(Descriptor, _place.Directory, name), _place.Path);
            _name = name;
        }

        FileFailedException.Check(FileCalls.Rename(_place.Directory, _name, _place.Directory, _place.Name, 0), _place.Path);
        _name = null;
    }

    public void Dispose()
    {
        if (_name is not null)
        {
            FileCalls.Remove(_place.Directory, _name, isDirectory: false);
        }

        _file.Dispose();
    }

    private int RenameNew(byte[] name)
    {
        var result = FileCalls.Rename(_place.Directory, name, _place.Directory, _place.Name, FileCalls.NoReplace);
        if (result == FileCalls.Invalid)
        {
            // A filesystem, as NFS, that cannot refuse to replace has second names.
            result = FileCalls.Link(Descriptor, _place.Directory, _place.Name);
            if (result >= 0)
            {
                FileCalls.Remove(_place.Directory, name, isDirectory: false);
            }
        }

        return result;
    }

    private int CountZeros(ReadOnlySpan<byte> bytes)
    {
        if (_size % HoleSize != 0)
        {
            return 0;
        }

        var zeros = bytes.IndexOfAnyExcept((byte)0) is var first && first < 0 ? bytes.Length : first;
        return zeros - (zeros % HoleSize);
    }

    private int CountData(ReadOnlySpan<byte> bytes)
    {
        var count = (int)Math.Min(bytes.Length, HoleSize - (_size % HoleSize));
        while (bytes.Length - count >= HoleSize && bytes.Slice(count, HoleSize).ContainsAnyExcept((byte)0))
        {
            count += HoleSize;
        }

        // What is less than a block is written.
        return bytes.Length - count < HoleSize ? bytes.Length : count;
    }

    private void WriteData(ReadOnlySpan<byte> bytes)
    {
        if (_size != _written)
        {
            FileFailedException.Check((int)Math.Min(0, FileCalls.Seek(Descriptor, _size, FileCalls.SeekSet)), _place.Path);
        }

        while (!bytes.IsEmpty)
        {
            var count = FileFailedException.Check(FileCalls.Write(Descriptor, bytes), _place.Path);
            bytes = bytes[count..];
            _size += count;
        }

        _written = _size;
    }
}
