using Pandora.Agent.Protocol.Files;
using Pandora.Agent.Protocol.Processes;
using Pandora.Engine.Guests.Files;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Engine.Guests.Agent;

/// <content>What the agent sends, none of which can be trusted.</content>
internal sealed partial class AgentFileRequest
{
    // Most bytes of one name: limits.h, NAME_MAX.
    private const int MaxName = 255;

    /// <summary>The request as a message.</summary>
    public static FileRequest RequestOf(FileSpec spec) => new((FileOperation)spec.Action, spec.Path)
    {
        Target = spec.Target,
        User = spec.User,
        Options = (spec.FollowsLinks ? FileOptions.FollowLinks : 0) | (spec.IsRecursive ? FileOptions.Recursive : 0)
            | (spec.MakesParents ? FileOptions.MakeParents : 0) | (spec.Replaces ? FileOptions.Replace : 0)
            | (spec.IsSparse ? FileOptions.Sparse : 0) | (spec.WithAttributes ? FileOptions.Attributes : 0),
        Mode = spec.Mode ?? FileRequest.NoMode,
        Owner = spec.Owner,
        ModifiedAt = spec.ModifiedAt,
        Offset = spec.Offset,
        Length = spec.Length ?? -1,
        Depth = spec.Depth,
        Limit = spec.Limit,
        After = spec.After,
        Condition = spec.Condition,
        Attributes = [.. spec.Attributes.SelectMany(a => new[] { a.Key, a.Value })],
    };

    /// <summary>The error for a guest that can do nothing with files.</summary>
    public static PandoraException Unsupported(string reason) => new(PandoraError.FilesUnsupported, reason);

    private FilePiece? Take(ProcessMessage kind, ReadOnlyMemory<byte> body)
    {
        switch ((FileMessage)kind)
        {
            case FileMessage.Entry when _files < MostFiles:
                var file = ToFile(FileEntry.Decode(body.Span));
                _files++;
                return new FilePiece(file);
            case FileMessage.Read when !body.IsEmpty && (spec.Action == FileAction.Pack || (spec.Action == FileAction.Read && _files == 1)):
                _bytes += body.Length;
                return spec.Length < _bytes
                    ? throw new FormatException($"more than the {spec.Length} bytes that were asked for")
                    : new FilePiece(Bytes: body);
            case FileMessage.Event when spec.Action == FileAction.Watch:
                _maySayNothing = true;
                return new FilePiece(Change: ToChange(FileEvent.Decode(body.Span)));
            case FileMessage.Done when !_maySayNothing || spec.Action == FileAction.Watch:
                if (spec.HasFile && _files != 1)
                {
                    throw new FormatException("an answer without its file");
                }

                var result = FileResult.Decode(body.Span);
                Outcome = new FileOutcome(
                    result.IsCreated, Math.Max(0, result.Bytes), Math.Max(0, result.Entries), Math.Max(0, result.Omitted), result.HasMore);
                _isOver = true;
                return null;
            case FileMessage.Failed:
                throw Failure(FileFailure.Decode(body.Span));
            case (FileMessage)ProcessMessage.Failed when _files == 0:
                throw Unsupported("the sandbox's agent is older than this server, and can do nothing with files");
            default:
                throw new FormatException($"a message {(int)kind}");
        }
    }

    private int MostFiles => spec switch
    {
        { Action: FileAction.List } => spec.Limit,
        { HasFile: true } => 1,
        _ => 0,
    };

    private static GuestFile ToFile(FileEntry entry)
    {
        if (entry.Path is not [(byte)'/', ..] || entry.Path.Contains((byte)0) || entry.LinkTarget.Length > FileRequest.MaxPath)
        {
            throw new FormatException("a file whose path cannot be");
        }

        return new GuestFile(entry.Path, (GuestFileKind)entry.Kind, entry.Tag)
        {
            Size = entry.Size,
            Mode = entry.Mode,
            UserId = entry.UserId,
            GroupId = entry.GroupId,
            User = entry.User is null ? null : GuestText.Bounded(entry.User),
            Group = entry.Group is null ? null : GuestText.Bounded(entry.Group),
            ModifiedAt = DateTimeOffset.UnixEpoch.AddTicks(entry.ModifiedAt / 100),
            LinkTarget = entry.LinkTarget,
            Attributes = entry.Attributes is { } all ? ToAttributes(all) : null,
        };
    }

    private static Dictionary<string, string> ToAttributes(IReadOnlyList<string> all)
    {
        Dictionary<string, string> attributes = [];
        for (var i = 0; i + 1 < all.Count; i += 2)
        {
            attributes[all[i]] = all[i + 1];
        }

        return attributes;
    }

    private static GuestFileChange ToChange(FileEvent change) => change.Path.Contains((byte)0) || change.Target.Contains((byte)0)
        ? throw new FormatException("a change of a path that cannot be")
        : new GuestFileChange((FileChangeKind)change.Change, change.Path, change.Target, change.IsDirectory);

    private PandoraException Failure(FileFailure failure)
    {
        var reason = GuestText.Printable(failure.Reason);
        return failure.Kind switch
        {
            FileFailureKind.User =>
                PandoraException.OfGuest(PandoraError.InvalidRequest, reason, IsOwner(failure.Reason) ? "owner" : "user"),
            FileFailureKind.Path => PandoraException.OfGuest(PandoraError.InvalidRequest, reason, PathField),
            FileFailureKind.Archive => PandoraException.OfGuest(PandoraError.InvalidRequest, reason, "body"),
            FileFailureKind.NotFound => PandoraException.OfGuest(PandoraError.FileNotFound, reason),
            FileFailureKind.Denied => PandoraException.OfGuest(PandoraError.FileAccessDenied, reason),
            FileFailureKind.Exists => PandoraException.OfGuest(PandoraError.FileExists, reason),
            FileFailureKind.WrongKind => PandoraException.OfGuest(PandoraError.FileState, reason),
            FileFailureKind.Full => PandoraException.OfGuest(PandoraError.DiskFull, reason),
            FileFailureKind.Condition => PandoraException.OfGuest(PandoraError.FilePrecondition, reason),
            FileFailureKind.TooMany => PandoraException.OfGuest(PandoraError.TooManyFileRequests, reason),
            FileFailureKind.Guest => PandoraException.OfGuest(PandoraError.FileFailed, reason),
            _ => Broken($"it did not understand the request: {failure.Reason}"),
        };
    }

    // The message does not say whose name is unknown.
    private bool IsOwner(string reason) => spec.Owner is { } owner
        && (spec.User is null || owner.Split(':').Any(
            part => part.Length > 0 && part != spec.User && reason.Contains(part, StringComparison.Ordinal)));

    // The message does not say which of two paths is at fault. A path that has been checked has a fault that only the target can have.
    private string PathField => spec switch
    {
        { Action: not (FileAction.Move or FileAction.Copy) } => "path",
        _ when HasLongName(spec.Path) => "from",
        _ => "to",
    };

    private static bool HasLongName(ReadOnlySpan<byte> path)
    {
        foreach (var name in path.Split((byte)'/'))
        {
            if (path[name].Length > MaxName)
            {
                return true;
            }
        }

        return false;
    }

    private PandoraException Broken(string reason, Exception? innerException = null) => new(
        PandoraError.GuestUnreachable,
        $"the guest's agent cannot be reached any more ({GuestText.Printable(reason)})"
            + (spec.Action is FileAction.Show or FileAction.Read or FileAction.List or FileAction.Pack or FileAction.Watch
                ? ""
                : "; what was asked for may have been done, in whole or in part"),
        innerException: innerException)
    {
        HasGuestWords = true,
    };
}
