using System.Diagnostics.CodeAnalysis;
using Pandora.Agent.Protocol.Files;

namespace Pandora.Agent.Files;

/// <summary>A request for files could not be done.</summary>
internal sealed class FileFailedException(FileFailureKind kind, string reason) : Exception(reason)
{
    public FileFailureKind Kind => kind;

    /// <summary>The failure of a system call.</summary>
    /// <param name="error">Its negative result.</param>
    /// <param name="path">The file.</param>
    public static FileFailedException Of(int error, ReadOnlySpan<byte> path) =>
        new(KindOf(-error), $"{FilePath.Show(path)}: {NameOf(-error)}");

    /// <summary>Throws when the result of a system call is an error.</summary>
    /// <returns>The result.</returns>
    public static int Check(int result, ReadOnlySpan<byte> path) => result >= 0 ? result : throw Of(result, path);

    /// <summary>Throws, because a file is not of the kind that is needed.</summary>
    [DoesNotReturn]
    public static void ThrowKind(ReadOnlySpan<byte> path, string state) =>
        throw new FileFailedException(FileFailureKind.WrongKind, $"{FilePath.Show(path)} {state}");

    private static FileFailureKind KindOf(int error) => error switch
    {
        1 or 13 or 30 => FileFailureKind.Denied,
        2 => FileFailureKind.NotFound,
        17 or 39 => FileFailureKind.Exists,
        6 or 11 or 16 or 20 or 21 or 26 => FileFailureKind.WrongKind,
        27 or 28 or 122 => FileFailureKind.Full,
        36 or 40 => FileFailureKind.Path,
        _ => FileFailureKind.Guest,
    };

    // errno(3), for those that a user of the guest can bring about.
    private static string NameOf(int error) => error switch
    {
        1 => "not permitted",
        2 => "no such file or directory",
        5 => "the disk has an error",
        6 => "no device is there",
        11 => "it would have to be waited for",
        12 => "no memory is left",
        13 => "permission denied",
        16 => "it is in use",
        17 => "it exists",
        18 => "it is on another filesystem",
        20 => "not a directory",
        21 => "it is a directory",
        22 => "the filesystem refuses it",
        23 or 24 => "too many files are open",
        26 => "it is being executed",
        27 => "the file is too large",
        28 => "no space is left",
        30 => "the filesystem is read-only",
        31 => "it has too many links",
        36 => "the name is too long",
        39 => "the directory is not empty",
        40 => "too many links",
        95 => "the filesystem cannot do it",
        122 => "the quota is exceeded",
        _ => $"error {error}",
    };
}
