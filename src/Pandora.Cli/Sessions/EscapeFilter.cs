namespace Pandora.Cli.Sessions;

/// <summary>
/// Finds <c>~.</c> at the beginning of a line of what the user types. A tilde there is held until the next key; two are one.
/// </summary>
internal sealed class EscapeFilter
{
    private bool _isLineBegin = true, _isTilde;

    /// <summary>What is for the terminal of the typed bytes.</summary>
    /// <param name="typed">The bytes.</param>
    /// <param name="isLeaving">Whether the user leaves: what comes after it is lost.</param>
    public byte[] Take(ReadOnlySpan<byte> typed, out bool isLeaving)
    {
        var passed = new List<byte>(typed.Length + 1);
        isLeaving = false;
        foreach (var key in typed)
        {
            if (_isTilde)
            {
                _isTilde = false;
                if (key == '.')
                {
                    isLeaving = true;
                    break;
                }

                passed.Add((byte)'~');
                if (key == '~')
                {
                    _isLineBegin = false;
                    continue;
                }
            }
            else if (_isLineBegin && key == '~')
            {
                _isTilde = true;
                continue;
            }

            passed.Add(key);
            _isLineBegin = key is (byte)'\r' or (byte)'\n';
        }

        return [.. passed];
    }
}
