using System.Text;
using Pandora.Engine;
using Pandora.Engine.Guests.Files;
using Pandora.Engine.Sandboxes;

namespace Pandora.Mcp.Files;

/// <summary>Reads files of guests.</summary>
internal static class GuestFiles
{
    /// <summary>A path as the guest gets it.</summary>
    /// <exception cref="PandoraException">It begins with what a shell would replace.</exception>
    public static byte[] PathOf(string path) => path is "~" || path.StartsWith("~/", StringComparison.Ordinal)
        ? throw PandoraException.Invalid("path", "~ is not replaced: a path without / at its beginning is in root's home")
        : Encoding.UTF8.GetBytes(path);

    /// <summary>Reads a part of a file.</summary>
    /// <param name="sandbox">The sandbox.</param>
    /// <param name="path">Its path.</param>
    /// <param name="offset">The first byte.</param>
    /// <param name="most">Most bytes.</param>
    /// <param name="stop">Ends the reading.</param>
    /// <returns>The file and the bytes.</returns>
    /// <exception cref="PandoraException">There is no such file, or it cannot be read.</exception>
    public static async Task<(GuestFile File, byte[] Bytes)> ReadAsync(
        Sandbox sandbox, string path, long offset, int most, CancellationToken stop)
    {
        using var bytes = new MemoryStream();
        var file = await ReadAsync(
            sandbox, path, offset, most,
            (piece, _) =>
            {
                bytes.Write(piece.Span);
                return true;
            },
            stop);
        return (file, bytes.ToArray());
    }

    /// <summary>
    /// Reads a part of a file piece by piece: <paramref name="take"/> gets each with its offset, and says whether it wants more.
    /// </summary>
    /// <inheritdoc cref="ReadAsync(Sandbox, string, long, int, CancellationToken)"/>
    public static async Task<GuestFile> ReadAsync(
        Sandbox sandbox, string path, long offset, long most, Func<ReadOnlyMemory<byte>, long, bool> take, CancellationToken stop)
    {
        var spec = new FileSpec(FileAction.Read, PathOf(path)) { Offset = offset, Length = most };
        await using var files = await sandbox.OpenFilesAsync(spec, stop);
        while (await files.ReadAsync(stop) is { } piece)
        {
            if (!take(piece.Bytes, offset))
            {
                files.Complete();
                break;
            }

            offset += piece.Bytes.Length;
        }

        return files.File!;
    }
}
