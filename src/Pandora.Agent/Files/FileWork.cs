using Pandora.Agent.Files.Tar;
using Pandora.Agent.Processes;
using Pandora.Agent.Protocol.Files;
using Pandora.Agent.Protocol.Processes;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Agent.Files;

/// <summary>One request on its thread: what its operation needs.</summary>
internal sealed class FileWork
{
    /// <summary>Bytes of a file that are read or written at once.</summary>
    public const int ChunkSize = 64 * 1024;

    private Dictionary<uint, string>? _users, _groups;
    private byte[]? _chunk;

    private FileWork(FileRequest request, RequestPipe pipe, Account account)
    {
        (Request, Pipe, Account) = (request, pipe, account);
        Path = FilePath.MakeAbsolute(request.Path, account);
    }

    /// <summary>The request.</summary>
    public FileRequest Request { get; }

    /// <summary>The way to the server.</summary>
    public RequestPipe Pipe { get; }

    /// <summary>The user whose rights the thread has.</summary>
    public Account Account { get; }

    /// <summary>The request's path, absolute.</summary>
    public byte[] Path { get; }

    /// <summary>Whether the user is root.</summary>
    public bool IsRoot => Account.User == 0;

    /// <summary>Memory for a message of <see cref="ChunkSize"/> bytes after its header.</summary>
    public byte[] Message => _chunk ??= new byte[ProcessMessages.HeaderSize + ChunkSize];

    /// <summary>Memory for <see cref="ChunkSize"/> bytes: a part of <see cref="Message"/>.</summary>
    public Span<byte> Chunk => Message.AsSpan(ProcessMessages.HeaderSize);

    /// <summary>Does a request, and answers whether it was done.</summary>
    /// <exception cref="OperationCanceledException">The stream was closed.</exception>
    public static void Run(FileRequest request, RequestPipe pipe)
    {
        FileFailure failure;
        try
        {
            var name = request.User ?? "root";
            var account = Account.Find(name) ?? throw FileOwner.Unknown("user", name);
            Identity.Take(account);
            var result = new FileWork(request, pipe, account).Run();
            pipe.Write(FileMessage.Done, result.Encode());
            return;
        }
        catch (FileFailedException e)
        {
            failure = new FileFailure(e.Kind, e.Message);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            // One request must not end the agent, which serves all others.
            failure = new FileFailure(FileFailureKind.Guest, $"the agent failed: {e.GetType().Name}");
        }

        pipe.Write(FileMessage.Failed, failure.Encode());
    }

    /// <summary>Takes bytes until the memory is full, so that holes lie on borders of blocks.</summary>
    /// <param name="read">Takes some bytes; 0 at the end.</param>
    /// <returns>How many; 0 at the end.</returns>
    public int Fill(Func<Memory<byte>, int> read)
    {
        var (chunk, count) = (Message.AsMemory(ProcessMessages.HeaderSize), 0);
        while (count < chunk.Length && read(chunk[count..]) is var more && more > 0)
        {
            count += more;
        }

        return count;
    }

    /// <summary>Answers a file.</summary>
    /// <param name="path">Its absolute path.</param>
    /// <param name="status">What is known of it.</param>
    /// <param name="linkTarget">What a link contains.</param>
    /// <param name="attributes">Names and values of its attributes, by turns; null when they were not asked for.</param>
    public void SendEntry(byte[] path, in FileStatus status, byte[]? linkTarget = null, IReadOnlyList<string>? attributes = null) =>
        Pipe.Write(FileMessage.Entry, new FileEntry(path, status.Kind)
        {
            Size = status.Size,
            Mode = (int)status.Mode,
            UserId = status.User,
            GroupId = status.Group,
            User = UserName(status.User),
            Group = GroupName(status.Group),
            ModifiedAt = status.ModifiedAt,
            ChangedAt = status.ChangedAt,
            Inode = status.Inode,
            LinkTarget = linkTarget ?? [],
            Attributes = attributes,
        }.Encode());

    /// <summary>Answers the file of a descriptor, which may be open as a path only.</summary>
    public void SendEntry(int file, ReadOnlySpan<byte> path)
    {
        FileFailedException.Check(FileCalls.Status(file, out var status), path);
        byte[]? target = null;
        if (status.Kind == FileKind.Link)
        {
            target = ReadLink(file, [], path);
        }

        SendEntry(FilePath.Clean(path), status, target, HasAttributes ? FileAttributes.Of(file) : null);
    }

    /// <summary>Whether entries have the attributes of their files.</summary>
    public bool HasAttributes => Request.Options.HasFlag(FileOptions.Attributes);

    /// <summary>Reads what a link contains.</summary>
    public static byte[] ReadLink(int directory, ReadOnlySpan<byte> name, ReadOnlySpan<byte> path)
    {
        Span<byte> target = stackalloc byte[FileRequest.MaxPath + 1];
        return target[..FileFailedException.Check(FileCalls.ReadLink(directory, name, target), path)].ToArray();
    }

    /// <summary>The name of a user; null for none.</summary>
    public string? UserName(uint id) => (_users ??= Account.UserNames()).GetValueOrDefault(id);

    /// <summary>The name of a group; null for none.</summary>
    public string? GroupName(uint id) => (_groups ??= Account.GroupNames()).GetValueOrDefault(id);

    private FileResult Run() => Request.Operation switch
    {
        FileOperation.Show => Show(),
        FileOperation.Read => FileReader.Run(this),
        FileOperation.Write => FileWriter.Run(this),
        FileOperation.Delete => FileDeleter.Run(this),
        FileOperation.MakeDirectory => DirectoryMaker.Run(this),
        FileOperation.Move => FileMover.Run(this),
        FileOperation.Copy => FileCopier.Run(this),
        FileOperation.List => FileLister.Run(this),
        FileOperation.Pack => TarPacker.Run(this),
        FileOperation.Unpack => TarUnpacker.Run(this),
        FileOperation.Watch => FileWatcher.Run(this),
        _ => throw new FileFailedException(FileFailureKind.Protocol, $"operation {(int)Request.Operation} is not known"),
    };

    private FileResult Show()
    {
        var follows = Request.Options.HasFlag(FileOptions.FollowLinks);
        using var file = OpenFile.At(FileCalls.NoDirectory, Path, FileCalls.PathOnly | (follows ? 0 : FileCalls.NoLink));
        SendEntry(file.Descriptor, Path);
        return new FileResult(Entries: 1);
    }
}
