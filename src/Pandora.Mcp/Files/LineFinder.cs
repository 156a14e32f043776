using Pandora.Engine;
using Pandora.Engine.Sandboxes;

namespace Pandora.Mcp.Files;

/// <summary>Finds where a line of a file begins.</summary>
internal static class LineFinder
{
    private const long Most = 64 * 1024 * 1024;

    /// <summary>The offset of a line.</summary>
    /// <param name="sandbox">The sandbox.</param>
    /// <param name="path">Path of the file.</param>
    /// <param name="line">Number of the line, from 2 on.</param>
    /// <param name="stop">Ends the search.</param>
    /// <exception cref="PandoraException">The file has fewer lines, or they are not in its first 64 MiB.</exception>
    public static async Task<long> FindAsync(Sandbox sandbox, string path, int line, CancellationToken stop)
    {
        var (breaks, found, end, isLineOver) = (0, -1L, 0L, true);
        var file = await GuestFiles.ReadAsync(sandbox, path, 0, Most, (piece, offset) =>
        {
            end = offset + piece.Length;
            isLineOver = piece.Span[^1] == (byte)'\n';
            for (var at = 0; found < 0 && piece.Span[at..].IndexOf((byte)'\n') is var next and >= 0;)
            {
                at += next + 1;
                breaks++;
                found = breaks == line - 1 ? offset + at : -1;
            }

            // A line break at the end of a file begins no line.
            return found < 0 || found == end;
        }, stop);
        if (found >= 0 && (found < end || end < file.Size))
        {
            return found;
        }

        throw PandoraException.Invalid(
            "first_line",
            end >= Most
                ? $"it is not in the first {Most / (1024 * 1024)} MiB of the file: read with cursor, or search with file_search"
                : $"the file has {breaks + (isLineOver ? 0 : 1)} lines");
    }
}
